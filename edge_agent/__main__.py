"""Entry of the console script; see `cli`."""


def main() -> None:
    from edge_agent.cli.app import app

    app()


if __name__ == "__main__":
    main()
