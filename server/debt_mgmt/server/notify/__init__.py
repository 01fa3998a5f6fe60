"""Being told: alerts carried to webhooks, Slack, Telegram and e-mail, behind the journal. No decision waits for it."""
