"""The debt-mgmt service: gRPC server, shards, journal, prices, brokers and command line."""
