"""How a network scores classes: one interface, `Classifier`, for all of them."""
