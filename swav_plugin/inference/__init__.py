"""Use a pretrained network: features of images."""
