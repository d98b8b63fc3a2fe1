"""The report of an audit: one self-contained HTML page. ``report.render_report`` makes it."""
