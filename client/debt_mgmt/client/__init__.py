"""The SDK: typed clients of the debt-mgmt service."""
