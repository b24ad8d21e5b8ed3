"""A check of pages in Chromium, as on a phone."""

import pytest


def faults_on_a_phone(browser, content):
    """Open a page at 390 pixels, light and dark. Return its errors, its overflow and its barriers.

    Barriers are the serious and critical findings of axe-core, for example a low contrast.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core").Axe()
    faults = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.set_content(content)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        width = page.evaluate("document.documentElement.scrollWidth")
        faults += [f"{scheme}: {width} pixels wide"] if width > 390 else []
        for found in axe.run(page).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                faults.append(f"{scheme}: {found['help']}: {found['nodes'][0]['html'][:200]}")
    page.close()
    return faults
