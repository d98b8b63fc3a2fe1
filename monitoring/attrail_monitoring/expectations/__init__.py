"""Great Expectations: inputs, rules over the measurements, their page."""
