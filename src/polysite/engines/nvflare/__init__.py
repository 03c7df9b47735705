"""NVIDIA FLARE as a carrier: mutual TLS between a server and hospitals. What it carries are bytes of ours."""
