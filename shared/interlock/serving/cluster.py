"""The Ray cluster as the platform sees it: connect, deploy and delete applications, call them by name."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import ray
from grpc.aio import AioRpcError
from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from interlock import semconv, telemetry
from interlock.errors import Transient
from interlock.serving.failures import DETAIL_CHARACTERS_MAX, ModelDied, ModelRaised, ModelTimedOut, first_line, raised
from interlock.signature import Matrix

CONNECT_SECONDS_MAX: Final = 30.0
CONTROL_SECONDS_MAX: Final = 30.0
PROBE_SECONDS_MAX: Final = 2.0
HANDLES_MAX: Final = 64
IN_CALL_BYTES_MAX: Final = 768 * 1024
"""A matrix of at most so many bytes goes to the replica within the call, which is half the work (ADR 0014)."""
NAMESPACE: Final = "serve"
T = TypeVar("T")


@dataclass(frozen=True)
class ApplicationState:
    """One application as Serve sees it.

    `state` is NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY or DELETING.
    """

    name: str
    state: str
    message: str

    @property
    def running(self) -> bool:
        """Whether its replica is up and answers its health check."""
        return self.state == "RUNNING"


async def connect(address: str) -> None:
    """Make this process a driver of the Ray cluster at `address` (host:port of its GCS), or keep the connection it has.

    A connection whose cluster has gone is dropped and made anew. Raises Transient while the cluster is away.
    """
    if not await _listens(address):
        # Asked through a connection whose head is gone, Ray ends the whole process instead of raising.
        if ray.is_initialized():
            await _in_thread(ray.shutdown, seconds=CONNECT_SECONDS_MAX)
        raise Transient(f"the Ray cluster at {address} is away: nobody listens there")
    await _in_thread(_connect, address, seconds=CONNECT_SECONDS_MAX)
    _reclaim_termination()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PROBE_SECONDS_MAX)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _reclaim_termination() -> None:
    """Put Python's own SIGTERM handler back: ray.init installs one that aborts the process 3 s after the signal."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.siginterrupt(signal.SIGTERM, False)  # noqa: FBT003 - it takes no keywords


async def disconnect() -> None:
    """Leave the cluster; applications stay as they are."""
    await _in_thread(ray.shutdown, seconds=CONNECT_SECONDS_MAX)


_connecting = threading.Lock()


def _connect(address: str) -> None:
    with _connecting:
        if ray.is_initialized():
            if _node_lives():
                return
            ray.shutdown()
        try:
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise Transient(f"the Ray cluster at {address} is away: {first_line(error)}") from error
        _forget_controller()


def _forget_controller() -> None:
    """Have Serve look for its controller anew.

    It knows a new session by its job id; but a cluster that was started anew gives the same job ids again.
    """
    serve.context._disconnect()  # type: ignore[no-untyped-call]  # noqa: SLF001 - Serve has no public way


def _node_lives() -> bool:
    """Say whether the raylet that this driver is attached to is still there, without asking Ray anything.

    Ray ends the process of a driver that speaks to the head of another cluster than it joined; and a cluster that
    was started anew has another raylet, on another socket.
    """
    node = _node()
    if node is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS_MAX)
        return probe.connect_ex(str(node.raylet_socket_name).removeprefix("unix://")) == 0


def _node() -> Any:
    """Return what stands for this process's session with a cluster, another one for each; None without."""
    return ray._private.worker.global_worker.node  # noqa: SLF001 - what is public asks the head


class ServeControl:
    """Ray Serve's control side, for the one process that may deploy. No HTTP proxy is ever started."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def deploy(self, application: serve.Application, name: str) -> None:
        """Hand an application to Serve and return at once; `status` tells when it runs.

        Deploying the same name again with the same content changes nothing. Raises Transient while Ray is away.
        """
        await connect(self._address)
        await _in_thread(_deploy, application, name, seconds=CONTROL_SECONDS_MAX)

    async def status(self) -> dict[str, ApplicationState]:
        """Return every application that Serve knows, by name. Raises Transient while Ray is away."""
        await connect(self._address)
        return await _in_thread(_status, seconds=CONTROL_SECONDS_MAX)

    async def delete(self, name: str) -> None:
        """Ask Serve to end an application, after the calls it holds; one that is not there is no error."""
        await connect(self._address)
        await _in_thread(_delete, name, seconds=CONTROL_SECONDS_MAX)


def _start_serve() -> None:
    serve.start(proxy_location="Disabled", logging_config=_quiet())


def _quiet() -> LoggingConfig:
    return LoggingConfig(log_level="WARNING", enable_access_log=False)


def _deploy(application: serve.Application, name: str) -> None:
    _start_serve()
    serve.run_many(
        [serve.RunTarget(application, name=name, route_prefix=None, logging_config=_quiet())],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _status() -> dict[str, ApplicationState]:
    overview = serve.status()
    return {
        name: ApplicationState(name, str(state.status.value), _messages(state))
        for name, state in overview.applications.items()
    }


def _messages(state: Any) -> str:
    parts = [state.message, *(deployment.message for deployment in state.deployments.values())]
    return "\n".join(part for part in parts if part)[:DETAIL_CHARACTERS_MAX]


def _delete(name: str) -> None:
    if name in serve.status().applications:
        serve.delete(name, _blocking=False)


class Handles:
    """Calls to applications by name, over cached handles; one object for a process, all calls from one event loop."""

    def __init__(self, address: str, handles_max: int = HANDLES_MAX) -> None:
        self._address = address
        self._handles_max = handles_max
        self._handles: OrderedDict[str, _Ways] = OrderedDict()
        self._getting = asyncio.Lock()

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        """Score a matrix (float64, rows x inputs) by the application `name`.

        Returns the digest of the version that the replica loaded, and its answer as it gave it (float64, rows x
        outputs if the model is sound: the caller checks). Raises Transient when application, replica or cluster
        is away or no replica took the call within `seconds_max`; ModelTimedOut, ModelRaised and ModelDied as they
        say.
        """
        handle = (await self._ways(name)).of(matrix)
        title, attributes = semconv.call(name)
        with telemetry.inner(title, "client", **attributes, **{semconv.ROWS: len(matrix)}):
            # The trace goes along only where it is recorded, so that a call has an argument more one time in a hundred.
            traceparent = telemetry.recorded_traceparent()
            response = handle.remote(matrix) if traceparent is None else handle.remote(matrix, traceparent)
            return await self._answered(name, response, seconds_max)

    async def _answered(self, name: str, response: Any, seconds_max: float) -> tuple[str, Matrix]:
        try:
            digest, outputs = await asyncio.wait_for(response, seconds_max)
        except TimeoutError:
            self.forget(name)
            response.cancel()
            raise Transient(f"application {name} did not answer within {seconds_max:g} s") from None
        except RayTaskError as error:
            raise _from_task(error) from error
        except ActorUnavailableError as error:
            self.forget(name)
            raise ModelDied(f"a replica of {name} became unavailable during the call") from error
        except RayActorError as error:
            self.forget(name)
            raise ModelDied(f"a replica of {name} died during the call") from error
        except (RayServeException, RayError, AioRpcError, RuntimeError) as error:
            # RuntimeError: Serve's word for a replica that ended before it said whether it takes the call.
            self.forget(name)
            raise Transient(f"application {name} is away: {first_line(error)}") from error
        return digest, outputs

    def forget(self, name: str) -> None:
        """Drop the cached handle of an application: the next call looks first whether the cluster is the same."""
        self._handles.pop(name, None)

    async def _ways(self, name: str) -> _Ways:
        ways = self._handles.get(name)
        if ways is not None and ways.node is not None and ways.node is _node():
            return ways
        async with self._getting:
            await connect(self._address)
            ways = _Ways.to(await _in_thread(_get_handle, name, seconds=CONTROL_SECONDS_MAX))
            self._handles[name] = ways
            while len(self._handles) > self._handles_max:
                self._handles.popitem(last=False)
            return ways


@dataclass(frozen=True)
class _Ways:
    """The two ways to one application: the matrix in the call itself, or through the shared memory of the node."""

    in_call: DeploymentHandle[Any]
    in_memory: DeploymentHandle[Any]
    node: Any
    """The session with the cluster that they are of; in another one they would look for replicas that are gone."""

    @classmethod
    def to(cls, handle: DeploymentHandle[Any]) -> _Ways:
        """Make the ways; to be called in the event loop that the calls come from. Raises Transient."""
        try:
            return cls(handle.options(_by_reference=False), handle, _node())
        except (RayServeException, RayError) as error:
            raise Transient(f"Ray is away: {first_line(error)}") from error

    def of(self, matrix: Matrix) -> DeploymentHandle[Any]:
        """Return the cheaper way for a matrix."""
        return self.in_call if matrix.nbytes <= IN_CALL_BYTES_MAX else self.in_memory


def _get_handle(name: str) -> DeploymentHandle[Any]:
    try:
        return serve.get_app_handle(name)
    except RayServeException as error:
        raise Transient(f"application {name} is not there: {first_line(error)}") from error


def _from_task(error: RayTaskError) -> ModelRaised | ModelTimedOut:
    cause = error.cause
    return cause if isinstance(cause, (ModelRaised, ModelTimedOut)) else raised(cause)


async def _in_thread(function: Callable[..., T], *arguments: Any, seconds: float) -> T:
    """Run a blocking Ray call aside, bounded: Ray's own calls wait for ever when its head has gone."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        done, _ = await asyncio.wait({call}, timeout=seconds)
    finally:
        call.cancel()
    if not done:
        raise Transient(f"Ray did not answer within {seconds:g} s")
    error = call.exception()
    if error is not None and _means_away(error):
        raise Transient(f"Ray is away: {first_line(error)}") from error
    return call.result()


def _means_away(error: BaseException) -> bool:
    """Say whether Ray is away; a call to an actor of a head that was killed is answered with a bare Exception."""
    bare = type(error) is Exception and str(error).startswith("Failed to submit task to actor")
    return bare or isinstance(error, (RayServeException, RayError))
