"""The model of one run: probed once at the first batch, scored at each sifted step."""
