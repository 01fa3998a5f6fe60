"""What the error codes of the six exchanges mean, as data: the client library files many under a wrong class."""

from collections.abc import Mapping
from enum import StrEnum


class Meaning(StrEnum):
    """What became of a request that was answered with an error."""

    UNCHANGED = "UNCHANGED"
    """It was so already: success."""
    INVALID = "INVALID"
    PRECONDITION = "PRECONDITION"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    NOTHING_TO_REDUCE = "NOTHING_TO_REDUCE"
    DUPLICATE = "DUPLICATE"
    NOT_FOUND = "NOT_FOUND"
    OTHER = "OTHER"
    """Refused, and nobody here knows why."""
    CREDENTIALS = "CREDENTIALS"
    PERMISSION = "PERMISSION"
    LOCATION = "LOCATION"
    RATE = "RATE"
    """Too many requests: not executed."""
    CLOCK = "CLOCK"
    """Its time or nonce was not accepted: not executed."""
    UNAVAILABLE = "UNAVAILABLE"
    """Not executed; later it may be."""
    DOUBTFUL = "DOUBTFUL"
    """Perhaps executed, perhaps not."""
    NOT_POSSIBLE = "NOT_POSSIBLE"


def table(**rows: str) -> dict[str, Meaning]:
    """Meanings by code, from codes by meaning; spaces separate the codes, or `|` where they hold spaces."""
    found: dict[str, Meaning] = {}
    for name, codes in rows.items():
        for code in codes.split("|") if "|" in codes else codes.split():
            assert code.strip() not in found, f"{code} stands twice"
            found[code.strip()] = Meaning[name]
    return found


BYBIT = table(
    UNCHANGED="110025 110026 110027 110043",
    INVALID="10001 10017 110003 110013 110094 3400052",
    PRECONDITION="110009 110011 110020 110021 110022 110023 110024 110028 110030 110031 110040 3400045",
    INSUFFICIENT_FUNDS="110004 110006 110007 110012 110014 110044 110045 110051 110052 110053",
    NOTHING_TO_REDUCE="110017",
    DUPLICATE="110072",
    NOT_FOUND="110001 110008 110010 110019 170213",
    CREDENTIALS="10003 10004 10007 33004",
    PERMISSION="10005 10008 10009 10010 10027 10028 110066",
    LOCATION="10024",
    RATE="10006 10018",
    CLOCK="10002",
    DOUBTFUL="10000 10016",
)
BINANCE = table(
    UNCHANGED="-4046 -4059",
    INVALID="-1100 -1101 -1102 -1106 -1111 -1115 -1116 -1117 -1121 -4003 -4004 -4005 -4014 -4023 -4028 -4164 -3015",
    PRECONDITION=(
        "-1013 -2010 -2020 -2021 -2025 -2026 -2027 -2028 -3006 -3045 -4045 -4047 -4048 -4049 -4054 -4055 -4061 -4067 "
        "-4068 -4137 -4161 -4168"
    ),
    INSUFFICIENT_FUNDS="-2018 -2019 -3041 -4050 -4051",
    NOTHING_TO_REDUCE="-2022 -4118",
    DUPLICATE="-4015 -4116",
    NOT_FOUND="-2011 -2013",
    CREDENTIALS="-1022 -2014 -2015 -2017",
    PERMISSION="-1002 -2016 -4109",
    RATE="-1003 -1015",
    CLOCK="-1021",
    UNAVAILABLE="-1008 -1016",
    DOUBTFUL="-1000 -1001 -1006 -1007",
)
OKX = table(
    INVALID="50014 50015 50016 51000 51001 51014 51015 51020 51039 51121 59102 59104 59105 59106 59109 59301",
    PRECONDITION="51004 51005 51006 51010 51027 51028 51112 51113 51174 59000 59100 59101 59107 59300",
    INSUFFICIENT_FUNDS="51008 51119 51127 51131 51502 59103 59108 59200",
    NOTHING_TO_REDUCE="51169 51170 51023",
    DUPLICATE="51016",
    NOT_FOUND="51400 51401 51402 51410 51503 51509 51510 51603",
    CREDENTIALS="50101 50103 50104 50105 50106 50107 50111 50113 50114 50119",
    PERMISSION="50009 50012 50030 50100 50110 50120 51024",
    LOCATION="50121 50122 51155",
    RATE="50011 50040 50061",
    CLOCK="50102 50112",
    DOUBTFUL="50001 50004 50005 50013 50026",
)
KRAKEN = table(
    INVALID=(
        "EGeneral:Invalid arguments|EQuery:Invalid asset pair|EQuery:Unknown asset pair|EQuery:Unknown asset"
        "|EGeneral:Unknown method|EOrder:Invalid price|EOrder:Order minimum not met|EOrder:Cost minimum not met"
        "|EOrder:Tick size check failed|EOrder:Invalid order"
    ),
    PRECONDITION=(
        "EOrder:Insufficient margin|EOrder:Margin allowance exceeded|EOrder:Margin level too low"
        "|EOrder:Cannot open position|EOrder:Cannot open opposing position|EOrder:Insufficient initial margin"
        "|EOrder:Margin position size exceeded|EOrder:Positions limit exceeded|EOrder:Orders limit exceeded"
        "|EOrder:Trading agreement required|EOrder:Market in cancel_only mode|EOrder:Reduce only:Non-PC"
    ),
    INSUFFICIENT_FUNDS="EOrder:Insufficient funds|EFunding:Insufficient funds",
    NOTHING_TO_REDUCE="EOrder:Reduce only:No position exists|EOrder:Reduce only:Position is closed",
    DUPLICATE="EOrder:Duplicate client order id|EGeneral:Invalid arguments:cl_ord_id",
    NOT_FOUND="EOrder:Unknown order|EOrder:Invalid order id",
    CREDENTIALS="EAPI:Invalid key|EAPI:Invalid signature|ESession:Invalid session|EAPI:Bad request",
    PERMISSION="EGeneral:Permission denied|EAPI:Feature disabled|ETrade:User Locked|EAccount:Invalid permissions",
    RATE=(
        "EAPI:Rate limit exceeded|EOrder:Rate limit exceeded|EGeneral:Temporary lockout|EGeneral:Too many requests"
        "|EService:Throttled"
    ),
    CLOCK="EAPI:Invalid nonce|EGeneral:Invalid nonce",
    UNAVAILABLE=(
        "EService:Market in cancel_only mode|EService:Market in post_only mode|EService:Market in limit_only mode"
    ),
    DOUBTFUL=(
        "EService:Timeout|EService:Deadline elapsed|EService:Unavailable|EService:Busy|EGeneral:Internal error"
        "|EDatabase:Internal error"
    ),
)
COINBASE = table(
    INVALID=(
        "INVALID_ARGUMENT invalid_request param_required validation_error UNSUPPORTED_ORDER_CONFIGURATION "
        "INVALID_SIZE_PRECISION INVALID_PRICE_PRECISION INVALID_PRODUCT_ID PREVIEW_INVALID_BASE_SIZE_TOO_SMALL "
        "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE PREVIEW_INVALID_SIZE_PRECISION PREVIEW_INVALID_LEVERAGE"
    ),
    PRECONDITION=(
        "FAILED_PRECONDITION PREVIEW_INVALID_ORDER_SIDE_FOR_SMALL_QTY INVALID_LIMIT_PRICE_POST_ONLY "
        "PREVIEW_FCM_TRADING_SESSION_CLOSED TRADING_DISABLED MARKET_CLOSED INVALID_CANCEL_REQUEST"
    ),
    INSUFFICIENT_FUNDS="INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUNDS_FOR_FUTURES",
    NOTHING_TO_REDUCE="INVALID_NO_POSITION NO_POSITION POSITION_NOT_FOUND PREVIEW_INVALID_REDUCE_ONLY",
    DUPLICATE="DUPLICATE_CLIENT_ORDER_ID ALREADY_EXISTS",
    NOT_FOUND="NOT_FOUND not_found UNKNOWN_CANCEL_ORDER",
    CREDENTIALS=(
        "UNAUTHENTICATED Unauthorized authentication_error unauthorized invalid_token revoked_token expired_token"
    ),
    PERMISSION="PERMISSION_DENIED invalid_scope unverified_email personal_details_required",
    RATE="RESOURCE_EXHAUSTED rate_limit_exceeded resource_exhausted",
    UNAVAILABLE="UNAVAILABLE",
    DOUBTFUL="INTERNAL internal_server_error DEADLINE_EXCEEDED COMMANDER_REJECTED_NEW_ORDER",
)
CRYPTOCOM = table(
    INVALID=(
        "209 213 218 219 220 221 225 226 308 314 315 415 30003 30006 30007 30008 30009 40001 40002 40003 40004 40005 "
        "40006 40007 40107 43003 43004 43005"
    ),
    PRECONDITION="206 207 208 222 224 301 302 303 304 305 309 310 311 312 313 318 319 501 614 43012",
    INSUFFICIENT_FUNDS="306 320 321 20002",
    NOTHING_TO_REDUCE="201 317 1110",
    DUPLICATE="204 205",
    NOT_FOUND="212 307 316 40401",
    CREDENTIALS="10002 10003 40101",
    PERMISSION="202 203 210 401 406 408 409 410 411 412 10005 20005 40103 40104",
    RATE="10006 42901",
    CLOCK="10007 40102",
    UNAVAILABLE="9010001",
    DOUBTFUL="10001 40801 50001",
)

CODES: Mapping[str, Mapping[str, Meaning]] = {
    "bybit": BYBIT,
    "binance": BINANCE,
    "okx": OKX,
    "kraken": KRAKEN,
    "coinbase": COINBASE,
    "cryptocom": CRYPTOCOM,
}

CLASSES = table(
    UNCHANGED="NoChange MarginModeAlreadySet",
    INVALID="ArgumentsRequired BadSymbol BadRequest InvalidAddress",
    NOT_FOUND="OrderNotFound",
    DUPLICATE="DuplicateOrderId",
    INSUFFICIENT_FUNDS="InsufficientFunds",
    PRECONDITION="InvalidOrder OperationRejected ContractUnavailable",
    LOCATION="RestrictedLocation",
    PERMISSION="PermissionDenied AccountSuspended",
    CREDENTIALS="AuthenticationError",
    NOT_POSSIBLE="NotSupported",
    RATE="RateLimitExceeded DDoSProtection",
    CLOCK="InvalidNonce",
    UNAVAILABLE="OnMaintenance ExchangeClosedByUser",
    DOUBTFUL="OperationFailed",
    OTHER="BaseError",
)
"""The client library's classes, by name; of a class that is not here the nearest ancestor counts."""

STATUSES: Mapping[int, Meaning] = {
    401: Meaning.CREDENTIALS,
    407: Meaning.CREDENTIALS,
    408: Meaning.DOUBTFUL,
    418: Meaning.RATE,
    429: Meaning.RATE,
    451: Meaning.LOCATION,
}
"""HTTP statuses that say enough by themselves."""
