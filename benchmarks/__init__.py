"""How fast the service is, as shares of what a bare grpc.aio echo does on the same machine in the same run."""
