"""`python -m intaglio`."""

if __name__ == "__main__":  # a worker process imports this file, too
    from intaglio.cli import main

    main()
