"""From a results folder to tables, figures and one page."""
