"""Single images: where the evidence lies, for the page and for a person."""
