"""Makes what a transfer reads from the official release of a benchmark.

  python -m scripts.prepare.vqav2 --raw DIR --out data/vqav2

A file for each benchmark says where its release is, and what of it is to be
unpacked into DIR.
"""
