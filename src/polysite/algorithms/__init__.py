"""What differs from federated averaging, one small file a method."""
