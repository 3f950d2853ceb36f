"""The rig: what breaks the product on purpose, and what judges it afterwards."""
