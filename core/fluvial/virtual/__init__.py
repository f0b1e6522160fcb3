"""Virtual time: an event loop whose clock jumps, the wall clock over it, and threads that it can do without.

A program that runs on :class:`~fluvial.virtual.loop.VirtualLoop` waits for nothing: when no task is ready, the time *is* that of the
next timer. An hour of a network of peers takes as long as its work takes, and happens in the same order every time. That asks for a
program whose every wait is a wait of the loop: no sockets, no threads, no other clock. What breaks this is refused with an error that says so.

::

    async def main() -> None:
        await anyio.sleep(3600)

    fluvial.virtual.loop.run(main)  # returns at once
"""
