"""Who asks: the user that MLflow's server authenticated, a trusted proxy's word, or the process itself."""

from flask import g, has_request_context, request

from attrail_mlflow.journal.journal import this_actor

LIMIT = 200  # characters of a name in the journal


def request_user(header: str | None) -> str | None:
    """The user of the request that is being served, None when nobody is known by name.

    MLflow's own authentication comes first; ``header`` is only for servers behind a proxy that sets it and drops what
    clients send under it.
    """
    if not has_request_context():
        return None
    user = getattr(g, "mlflow_authenticated_user", None) or (request.headers.get(header) if header else None)
    return str(user)[:LIMIT] if user else None


def request_actor(header: str | None) -> str:
    """Who asks, as the journal names them: the user if known, and the address the request came from."""
    if not has_request_context():
        return this_actor()
    return f"{request_user(header) or 'anonymous'} from {request.remote_addr or 'nowhere'}"
