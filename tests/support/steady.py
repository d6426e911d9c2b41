"""A steady load of single requests, over connections that are kept and over new ones, that notices every request without an answer."""

import asyncio
import json
import threading
from collections import Counter

from features.schema import Table

PATIENCE = 120  # seconds that an answer may take on a busy machine


class SteadyLoad:
    """Clients that score one applicant after the other in a thread of their own. All stop once a connection is refused.

    Parameters
    ----------
    kept, new : clients that keep their connection until an answer closes it, and clients that connect for each request.
    pause : seconds of each client between two requests.
    """

    def __init__(self, host: str, port: int, table: Table, kept: int = 8, new: int = 4, pause: float = 0.02) -> None:
        self.address, self.pause = (host, port), pause
        self.clients = [True] * kept + [False] * new
        self.body = json.dumps({"application": dict(table.example)}).encode()
        self.answered: list[str] = []  # prediction ids
        self.failures: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.closed: Counter[int] = Counter()  # for each client that keeps its connection, how often an answer closed it
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "SteadyLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each client finish its request."""
        self._stopped = True
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number, keep) for number, keep in enumerate(self.clients)))

    async def _client(self, number: int, keep: bool) -> None:
        fields = b"" if keep else b"Connection: close\r\n"
        head = b"POST /predict HTTP/1.1\r\nHost: service\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        request = head % (fields, len(self.body)) + self.body
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopped:
            try:
                async with asyncio.timeout(PATIENCE):
                    stream = stream or await asyncio.open_connection(*self.address)
                    closes = await self._ask(*stream, request)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(f"{'kept' if keep else 'new'}: {error!r}")
                self._stopped = self._stopped or isinstance(error, ConnectionRefusedError)
                closes = True
            else:
                self.closed[number] += keep and closes
            if closes and stream:
                stream[1].close()
                stream = None
            await asyncio.sleep(self.pause)
        if stream:
            stream[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
        """Send a request and note the answer; returns whether it closes the connection."""
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        status = int(head.split()[1])
        self.statuses[status] += 1
        if status == 200:
            self.answered.append(json.loads(body)["prediction_id"])
        return b"\r\nconnection: close\r\n" in head
