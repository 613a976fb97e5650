"""Use of the side information table (SIE) of a re-id file on a test set with other cameras and views."""

from collections.abc import Mapping

from torch import Tensor

from model.reid import SideInformation


def side_information_for(
    rows: int, *, cameras: int, views: int, use_camera: bool, use_view: bool, scale: float
) -> tuple[SideInformation | None, str]:
    """The use of a table of `rows` on a test set of that many cameras and views, and a line about it.

    Nothing in the file says how its rows are numbered: the configuration's use and the counts do. Where that
    does not fit the table (another site with more cameras), the mean row stands for all images: known rows
    for some and the mean for others would move the two groups apart.
    """
    if not rows:
        summary = "SIE is on but the file has no table: tested without" if use_camera or use_view else ""
        return None, summary
    if rows == cameras * views != cameras:  # only cameras and views together give this number
        use_camera = use_view = True
    elif not (use_camera or use_view):
        use_camera = rows == cameras
    if use_camera and use_view:
        numbered = rows // max(views, 1), max(views, 1)
    else:
        numbered = (rows if use_camera else 0), (rows if use_view else 0)
    table = SideInformation(*numbered, scale)
    return fitting_side_information(table, rows, cameras=cameras, views=views)


def trained_side_information(
    table: SideInformation, rows: Tensor, trained: Mapping[str, int], data: str, *, cameras: int, views: int
) -> tuple[SideInformation, str, Tensor]:
    """The use of the `rows` (R, D) of a table on test set `data`, a line about it, and the rows to use.

    `trained` are the cameras of each data set in training, which follow each other in the table. The rows
    that come back have those of `data` first. The mean row stands for all images of another data set. Where
    a name is '', not known, only the counts decide.
    """
    if not data or "" in trained:
        return *fitting_side_information(table, len(rows), cameras=cameras, views=views), rows
    if data not in trained:
        side, summary = _mean_row(table, f"the table is of {', '.join(trained)}, not of {data}")
        return side, summary, rows
    names = list(trained)
    first = sum(trained[name] for name in names[: names.index(data)])
    if table.cameras and trained[data] < cameras:
        side, summary = _mean_row(table, f"{data} had {trained[data]} cameras in training, here {cameras}")
        return side, summary, rows
    side, summary = fitting_side_information(table, len(rows), cameras=cameras, views=views)
    if first and side.cameras > 1:
        rows = rows.unflatten(0, (side.cameras, -1)).roll(-first, dims=0).flatten(0, 1)
        summary += f", those of {data} from camera {first} on"
    return side, summary, rows


def fitting_side_information(
    table: SideInformation, rows: int, *, cameras: int, views: int
) -> tuple[SideInformation, str]:
    """The table of `rows` as it is numbered, or its mean row where the test set does not fit; and a line."""
    misfit = table.rows != rows or 0 < table.cameras < cameras or 0 < table.views < views
    if misfit:
        return _mean_row(
            table, f"the table's {rows} rows do not fit {cameras} cameras and {views} views here"
        )
    if table.cameras and table.views:
        return table, f"SIE by camera and view ({table.cameras} x {table.views})"
    return table, f"SIE by {'camera' if table.cameras else 'view'} ({rows} rows)"


def _mean_row(table: SideInformation, reason: str) -> tuple[SideInformation, str]:
    return SideInformation(1, 0, table.scale), f"SIE by the mean row: {reason}"
