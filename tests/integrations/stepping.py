"""Drives a training that owns its loop one update at a time, from outside."""

import queue
import threading


class Halt(BaseException):
    """Ends a training that is no longer needed."""


class Stepped:
    """A training in a thread, which calls :meth:`pause` before its first and after each update.

    While it is paused, functions can be called within it: in the middle of its loop.
    """

    def __init__(self, train) -> None:
        self._commands: queue.Queue = queue.Queue()
        self._answers: queue.Queue = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(train,), daemon=True)
        self._thread.start()
        self._receive()

    def _run(self, train) -> None:
        try:
            train(self)
        except Halt:
            self._answers.put(("halted", None))
        except BaseException as error:
            self._answers.put((None, error))
        else:
            self._answers.put((None, AssertionError("the training ended too early")))

    def pause(self, answer=None) -> None:
        self._answers.put((answer, None))
        while (command := self._commands.get()) is not None:
            if command is Halt:
                raise Halt
            try:
                self._answers.put((command(), None))
            except BaseException as error:
                self._answers.put((None, error))

    def update(self):
        """Let it go on to its next pause, and give what it says there."""
        return self._send(None)

    def call(self, function):
        """Call a function within the training."""
        return self._send(function)

    def halt(self) -> None:
        self._send(Halt)
        self._thread.join()

    def _send(self, command):
        self._commands.put(command)
        return self._receive()

    def _receive(self):
        answer, error = self._answers.get(timeout=120)
        if error is not None:
            raise error
        return answer
