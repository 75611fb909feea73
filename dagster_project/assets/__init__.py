"""The assets, one module a group, in the order data walks through them."""
