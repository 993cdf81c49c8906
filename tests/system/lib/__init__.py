"""The harness of the system tests and of the demo: real processes in network namespaces of their own, joined by the
line emulator. Python's standard library only.

    requirements   what a test needs of the machine; without it, exit code 77 (skipped)
    paths          where the build is
    wait           waiting for conditions, with a deadline and a name for what did not come
    process        a process with a log, in a namespace, ended by its id
    netns          two sites, a tiebreaker, a client that reaches both sites' guests, and the lines between
    wan            commands to the emulator
    control        a replicator's control socket
    credentials    certificates and keys
    pair           a protected VM: its files at both sites, its processes
    case           a unittest case that cleans up and shows logs when it fails
"""
