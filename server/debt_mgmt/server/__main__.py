"""The command debt-mgmt: starts the command line, or says what to install where only the SDK is."""

import importlib
import sys


def main() -> None:
    """Runs `debt_mgmt.server.cli.main`. It comes with the extra `server`; the SDK alone has no command line."""
    try:
        command_line = importlib.import_module("debt_mgmt.server.cli")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("debt_mgmt"):
            raise
        print(
            f"debt-mgmt: the service and its command line need {error.name}, which the SDK comes without.\n"
            "Install them with: pip install 'debt-mgmt[server]'",
            file=sys.stderr,
        )
        sys.exit(2)
    command_line.main()


def launch() -> None:
    """`main`, quiet when it is interrupted before the command line can say so itself."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    launch()
