"""The model: SigLIP, Gemma, and PaliGemma, which joins them."""
