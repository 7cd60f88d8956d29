"""The self-test of the verdict: does it pass models that were retrained, and catch models that forgot nothing?

`cases` says on which federations and with which shortcuts, `models` makes them, `scoring` judges them again and again,
`run` is what the command line calls.
"""
