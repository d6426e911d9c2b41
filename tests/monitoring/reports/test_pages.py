from matplotlib.figure import Figure

from monitoring.reports import pages


def test_a_page_escapes_what_it_is_told() -> None:
    page = pages.page("Drift", {"model": "<b>"}, pages.table(["a & b"], [["<script>"], []]))
    assert "<p>model: &lt;b&gt;</p>" in page
    assert "<th>a &amp; b</th>" in page
    assert "<tr><td>&lt;script&gt;</td></tr>\n<tr></tr>" in page
    assert "<script>" not in page


def test_a_figure_is_within_the_page() -> None:
    assert pages.image(Figure(figsize=(1, 1)), 'rates "by bin"').startswith(
        '<p><img alt="rates &quot;by bin&quot;" src="data:image/png;base64,iVBOR'
    )
