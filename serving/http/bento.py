"""The short path from the boundary to BentoML's API methods."""

from typing import Any, cast

from _bentoml_sdk import Service  # the class behind bentoml.service, whose parameter service_class takes a subclass
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from configs.settings import Settings
from monitoring.metrics import Metrics
from serving.errors import ServiceError
from serving.http.boundary import Boundary
from serving.http.cors import cross_origin
from serving.http.routes import API_ROUTES, problem_response
from serving.identity.key_ring import KeyRing
from serving.startup import check_worker


def lean_service(metrics: Metrics, keys: KeyRing | None, settings: Settings) -> type[Service[Any]]:
    """A subclass of BentoML's Service: the boundary is around its app and calls the API methods directly.

    BentoML's own path to a method costs as much as parsing, scoring and answering together: a task and a timer for each request's
    timeout (the runner has a deadline of its own), a tracing span even if nothing is traced, a request context, seven routes tried in
    turn, checks of the method's signature, dependency injection of headers. With `service.tracing`, requests take BentoML's path.
    The function is long because its classes close over the arguments.
    """

    class LeanService(Service[Any]):
        """A BentoML service within the boundary."""

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            """The app that the worker serves."""
            from _bentoml_impl.server.app import ServiceAppFactory

            check_worker(keys)

            class Factory(ServiceAppFactory):
                """BentoML's app, except that an API method takes the body and returns the response."""

                @property
                def middlewares(self) -> list[Middleware]:
                    return [item for item in super().middlewares if getattr(item.cls, "__name__", "") != "TimeoutMiddleware"]

                async def api_endpoint_wrapper(self, name: str, request: Request) -> Response:
                    api = self.service.apis[name]
                    try:
                        body = await api.input_spec.from_http_request(request, None)
                        # taken from the instance, the method would be wrapped and its signature inspected for every request
                        response: Response = await api.func(self._service_instance, body)
                    except ServiceError as error:  # the router would turn it into a 500
                        response = problem_response(error)
                    return response

            self.inject_config()
            app = Factory(self, is_main=is_main, enable_access_control=False)()  # CORS goes around the boundary, below
            routes = {} if settings.service.tracing else {route.path: route.endpoint for route in app.routes if route.path in API_ROUTES}
            boundary = Boundary(app, metrics, settings.service, keys, routes)
            whole = cross_origin(boundary, BentoMLContainer.http.cors.get())
            boundary.guard_connections(cast(Any, whole))
            return whole

    return LeanService
