"""The SDK: typed clients of the debt-mgmt service."""

from debt_mgmt.client.accounts import Account, AccountCreated, Broker, BrokerCapability, CloseAccountOutcome
