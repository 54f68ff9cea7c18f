"""Patterns of letters and words of the tokenizer in pg/evals/metrics/ptb.py.

Patterns, most of them alternatives in a group of their own. The lists are those
of the reference, found out by asking it for each run of letters that it can
tell from others.
"""

import functools
import re


def _words(text):
  """Returns a pattern of any of the words, without regard to case."""
  return "(?i:" + "|".join(text.split()) + ")"


def _capitalized(text):
  """Returns a pattern of any of the words, whose first letter has its case."""
  return "|".join(f"{w[0]}(?i:{w[1:]})" for w in text.split())


# Letters with full stops between them; "U.S." is more than an acronym.
ACRONYM = (
  r"(?:[A-Za-z](?:\.[A-Za-z])+|(?i:(?:canada|sino|korean|eu|japan|non)-u\.s"
  r"|u\.s\.-u\.(?:k|s\.s\.r)))"
)
# Keep a full stop, unless a word goes on after it.
OFTEN_LAST = (
  "(?:"
  + _words(
    """jan feb mar apr jun jul aug sept? oct nov dec mon tues? wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kans? ky md mich minn mo mont neb
    nev okla penn tenn va vt wisc? wyo inc cos? corp p?pt[ye]s? ltd plc rt
    bancorp bhd assn univ intl sys bldg blvd rd bros esq jr sr (?:ed|ph)\\.d
    est ext sq tel al etc seq"""
  )
  + "|"
  + _capitalized("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")
  + ")"
)
OFTEN_INSIDE = _words(
  """mr mrs ms mlle mme messrs drs? profs? sens? reps? attys? govs? supts? ste?
  adj adm adv asst assoc ave brig capt co?mdr col cpl det ens ft gen hon insp
  lieut lt maj msgr mt pfc pres pvt rev sfc sgt spc alex wm jos cie a\\.k\\.a
  cf dept elec invt m[ft]g natl ph treas vs"""
)
BEFORE_NUMBERS = _words("art ca figs? nos? op pp prop")
ABBREVIATION = re.compile(f"{OFTEN_LAST}|{OFTEN_INSIDE}|{BEFORE_NUMBERS}")
SPLIT = re.compile(_words("cannot gonna gotta gimme lemme wanna"))
# An acronym before one of these ends its sentence.
SENTENCE_STARTS = _capitalized(
  r"""About According Additionally After An A As At But Earlier He Her Here
  However If In It Last Many More Mr\. Ms\. Now Once One Other Our She Since So
  Some Such That The Their Then There These They This We When While What Yet
  You"""
)
FILE_ENDS = _words(
  """bat bmp c class cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3
  pdf php pl png ppt ps py sql tar txt wav x xml zip"""
)


@functools.cache
def alphabet():
  """Returns the letters up to U+FFFF as ranges of a character class."""
  codes = [code for code in range(0x10000) if chr(code).isalpha()]
  starts = [c for c in codes if not chr(c - 1).isalpha()]
  ends = [c for c in codes if not chr(c + 1).isalpha()]
  return "".join(f"\\u{a:04x}-\\u{b:04x}" for a, b in zip(starts, ends))


def letters():
  """Returns the pattern of a letter of a word: also marks, such as of Thai."""
  marks = (
    r"\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u037d"
    r"\u0384\u0385\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0670\u0900-\u0903"
    r"\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4"
    r"\u09c7\u09c8\u09cb-\u09cd\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83"
    r"\u0abc-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03"
    r"\u0c3e-\u0c56\u0d3e-\u0d44\u0d46-\u0d48\u0e30-\u0e3a\u0e47-\u0e4e\u0eb1-"
    r"\u0ebc\u0ec8-\u0ecd"
  )
  accented = "&[aeiouAEIOU](?i:acute|grave|uml);"
  return f"(?:[{alphabet()}{marks}]|{accented})"


@functools.cache
def letter():
  return re.compile(letters())


def word():
  """Returns the pattern of a word; marks inside it do not end it ("U.S.A")."""
  letter = letters()
  part = rf"{letter}(?:{letter}|\d)*"
  return f"{part}(?:[.!?]{part})*"
