"""Use of the side information table (SIE) of a re-id file on a test set with other cameras and views."""

from model.reid import SideInformation


def side_information_for(
    rows: int, *, cameras: int, views: int, use_camera: bool, use_view: bool, scale: float
) -> tuple[SideInformation | None, str]:
    """The use of a table of `rows` on a test set of that many cameras and views, and a line about it.

    Where the wanted use does not fit the table (another site with more cameras), the mean row stands for
    all images: known rows for some and the mean for others would move the two groups apart.
    """
    if not rows:
        summary = "SIE is on but the file has no table: tested without" if use_camera or use_view else ""
        return None, summary
    if rows == cameras * views != cameras:  # only cameras and views together give this number
        use_camera = use_view = True
    elif not (use_camera or use_view):
        use_camera = rows == cameras
    if use_camera and use_view and rows % max(views, 1) == 0 and rows // max(views, 1) >= cameras:
        summary = f"SIE by camera and view ({rows // views} x {views})"
        return SideInformation(rows // views, views, scale), summary
    if use_camera and not use_view and rows >= cameras:
        return SideInformation(rows, 0, scale), f"SIE by camera ({rows} rows)"
    if use_view and not use_camera and rows >= views:
        return SideInformation(0, rows, scale), f"SIE by view ({rows} rows)"
    reason = f"the table's {rows} rows do not fit {cameras} cameras and {views} views here"
    return SideInformation(1, 0, scale), f"SIE by the mean row: {reason}"
