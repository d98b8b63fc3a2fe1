"""What an audit is given: versions, slice tables, images."""
