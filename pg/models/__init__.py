"""What is computed: SigLIP, Gemma and the two joined."""
