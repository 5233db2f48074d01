"""DreamMover: image interpolation with large motion from a pretrained text-to-image diffusion model."""
