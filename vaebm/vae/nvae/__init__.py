"""The NVAE: a VAE whose codes are groups at several scales, each given those above it (Vahdat & Kautz 2020)."""
