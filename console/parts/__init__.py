"""Small pieces that pages share: labels, panels, tables, the step rail and charts."""
