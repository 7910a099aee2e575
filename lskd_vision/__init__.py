"""Distillation of image classifiers with timm."""
