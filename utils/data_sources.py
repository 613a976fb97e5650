"""Where the public data sets can be had.

Only what a set's own authors have published without a form is fetched: addresses are from their pages.
"""

from utils.download import Source

_ON_REQUEST = "is not public, its authors give it on request"
_DUKE = "https://github.com/sxzrt/DukeMTMC-reID_evaluation"

DATA_SOURCES = {
    "market1501": Source(
        "Market-1501-v15.09.15",
        drive_id="0B8-rUzbwVRk0c054eEozWG9COHM",
        resource_key="0-8nyl7K9_x37HlQm34MmrYQ",
        marker="query",
        size=145_885_626,
        md5="65005ab7d12ec1c44de4eeafe813e68a",
        also=("Market1501",),
    ),
    "dukemtmc": Source(
        "dukemtmcreid/DukeMTMC-reID",
        page=_DUKE,
        terms="is not public any more, its authors took it offline",
        also=("DukeMTMC-reID",),
    ),
    "occ_duke": Source(
        "dukemtmcreid/Occluded_Duke",
        page="https://github.com/lightas/Occluded-DukeMTMC-Dataset",
        terms="is made from the images of dukemtmc, which its authors took offline",
    ),
    "msmt17": Source(
        "MSMT17", page="http://www.pkuvmc.com/dataset.html", terms=_ON_REQUEST, also=("MSMT17_V2",)
    ),
    "veri": Source("VeRi", page="https://vehiclereid.github.io/VeRi/", terms=_ON_REQUEST),
    "VehicleID": Source(
        "VehicleID_V1.0", page="https://www.pkuml.org/resources/pku-vehicleid.html", terms=_ON_REQUEST
    ),
    "cuhk_pedes": Source(
        "CUHK-PEDES/imgs",  # the list of captions, which is public, may be there without them
        page="https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description",
        terms=_ON_REQUEST,
    ),
    "cuhk_pedes_captions": Source(
        "CUHK-PEDES/reid_raw.json",
        drive_id="0B-GOvBat1maObWN1eDV6cFNYV2M",
        resource_key="0-CStaTaSQeHN60VYIjlVTAg",
        is_file=True,
    ),
    "icfg_pedes": Source("ICFG-PEDES", page="https://github.com/zifyloo/SSAN", terms=_ON_REQUEST),
    "rstpreid": Source("RSTPReid", drive_id="1mngN3jZz4BI6PyGNZMKsvRR9JbvLSlg9", marker="data_captions.json"),
}
