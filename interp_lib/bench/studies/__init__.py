"""One file per sweep that is too long for a notebook: ITEMS says of what, `measure` measures one item."""
