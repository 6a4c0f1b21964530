"""How attribution maps are made, and of whose logit."""

METHODS = ("saliency", "integrated_gradients")
CLASSES = ("label", "prediction")
