"""How the table of side information (SIE) in a re-id file is used where cameras and views may be others."""

from model.reid import SideInformation


def side_information_for(
    rows: int, *, cameras: int, views: int, use_camera: bool, use_view: bool, scale: float
) -> tuple[SideInformation | None, str]:
    """How a table of `rows` is used on a test set of that many cameras and views.

    Where the wanted use does not fit the table (another site with more cameras), the mean row stands for
    all images: part known, part mean would move the two parts apart. Returns the choice and a line about it.
    """
    if not rows:
        wanted = "SIE is on but the file has no table: tested without" if use_camera or use_view else ""
        return None, wanted
    if rows == cameras * views != cameras:  # the counts tell of both, whatever was said
        use_camera = use_view = True
    elif not (use_camera or use_view):
        use_camera = rows == cameras
    if use_camera and use_view and rows % max(views, 1) == 0 and rows // max(views, 1) >= cameras:
        told = f"SIE by camera and view ({rows // views} x {views})"
        return SideInformation(rows // views, views, scale), told
    if use_camera and not use_view and rows >= cameras:
        return SideInformation(rows, 0, scale), f"SIE by camera ({rows} rows)"
    if use_view and not use_camera and rows >= views:
        return SideInformation(0, rows, scale), f"SIE by view ({rows} rows)"
    told = f"the table's {rows} rows do not fit {cameras} cameras and {views} views here"
    return SideInformation(1, 0, scale), f"SIE by the mean row: {told}"
