"""The page of eval.py --report in a browser. Needs selenium (pip install selenium) and Chromium with its driver."""

import shutil

import pytest

webdriver = pytest.importorskip('selenium.webdriver')
wait = pytest.importorskip('selenium.webdriver.support.wait')
CHROMIUM, DRIVER = shutil.which('chromium') or shutil.which('google-chrome'), shutil.which('chromedriver')
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs chromium and chromedriver')

FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync --window-size=1200,900'
)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f'--user-data-dir={tmp_path_factory.mktemp("browser")}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, reported):
    """The report as it is when it has just been opened; without a word on the console to the end of the test."""
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.get((reported.log / 'report/index.html').as_uri())
    browser.execute_script('localStorage.clear()')
    browser.refresh()
    yield browser
    assert browser.get_log('browser') == []


def all_of(page, selector, what='textContent'):
    return page.execute_script(
        'return [...document.querySelectorAll(arguments[0])].map((each) => each[arguments[1]])', selector, what
    )


def find(page, selector):
    return page.find_element('css selector', selector)


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()


def choose(page, view):
    page.execute_script('arguments[0].click()', find(page, f'input[value={view}]'))


VISIBLE = 'div[data-branch]:not([hidden])'


def test_sorting(page):
    column = f'{VISIBLE} .classes td:nth-child(3)'
    button = find(page, f'{VISIBLE} .classes th:nth-child(3) button')
    before = [float(text) for text in all_of(page, column)]
    for order in (sorted(before, reverse=True), sorted(before)):
        button.click()
        assert [float(text) for text in all_of(page, column)] == order
    assert all_of(page, f'{VISIBLE} .classes th[aria-sort]', 'ariaSort') == ['ascending']
    press(page, webdriver.Keys.ENTER)  # the button has the focus
    assert [float(text) for text in all_of(page, column)] == sorted(before, reverse=True)


def test_values_that_are_missing_stay_last(page):
    column = f'{VISIBLE} .classes td:nth-child(4)'
    page.execute_script(
        "const cell = document.querySelector(arguments[0]); cell.dataset.value = ''; cell.textContent = '–'", column
    )
    for _ in range(2):
        find(page, f'{VISIBLE} .classes th:nth-child(4) button').click()
        assert all_of(page, column)[-1] == '–'


def test_branches(page):
    scores = f'{VISIBLE} .scores dd'
    before = all_of(page, scores)
    other = find(page, '#branches input:not(:checked)')
    page.execute_script('arguments[0].click()', other)
    assert all_of(page, scores) != before
    assert f'branch {other.get_property("value")}' in all_of(page, scores)[0]


def test_views_of_the_gallery(page):
    sources = '#gallery .layer'
    assert all_of(page, sources, 'hidden') == [True, True]
    for view in ('prediction', 'truth', 'errors', 'confidence'):
        choose(page, view)
        assert [source[-len(view) - 10 :] for source in all_of(page, sources, 'src')] == [
            f'/000{i}-{view}.png' for i in (1, 2)
        ]
        page.execute_async_script(  # lazy: it loads when it is seen
            'const image = document.querySelector(arguments[0]), done = arguments[1]; image.scrollIntoView();'
            'if (image.complete && image.naturalWidth) done(); else image.onload = done;',
            sources,
        )
        assert all_of(page, sources, 'naturalWidth')[0] == 64
        names = all_of(page, f'#gallery .names[data-layer={view}]', 'hidden')
        assert names == ([False] * 2 if view in ('prediction', 'truth') else [])
    press(page, '1')
    assert all_of(page, sources, 'hidden') == [True, True]
    press(page, '4')
    assert all_of(page, '[data-legend]:not([hidden])', 'dataset')[0]['legend'] == 'errors'


def test_opacity(page):
    choose(page, 'prediction')
    slider = find(page, '#blend')
    slider.send_keys(webdriver.Keys.HOME)
    assert find(page, '#gallery .layer').value_of_css_property('opacity') == '0'


def test_one_image_large(page):
    choose(page, 'prediction')
    find(page, '#gallery .enlarge').click()
    shown = '#large-figure strong'
    names = all_of(page, '#gallery strong')
    assert all_of(page, shown) == names[:1]
    press(page, webdriver.Keys.ARROW_RIGHT)
    assert all_of(page, shown) == names[1:]
    press(page, webdriver.Keys.ARROW_RIGHT)
    assert all_of(page, shown) == names[:1]
    choose(page, 'errors')  # the controls have come along
    assert all_of(page, '#large .layer', 'src')[0].endswith('0001-errors.png')
    press(page, webdriver.Keys.ESCAPE)
    assert all_of(page, '#large', 'open') == [False]
    # The dialog's close event comes later than its closing.
    wait.WebDriverWait(page, 60).until(lambda page: all_of(page, '#bar-place #bar', 'id') == ['bar'])
    assert page.switch_to.active_element.get_attribute('class') == 'enlarge'


def test_matrix_by_keyboard(page):
    first = find(page, f'{VISIBLE} .matrix td[tabindex="0"]')
    page.execute_script('arguments[0].focus()', first)
    press(page, webdriver.Keys.ARROW_DOWN, webdriver.Keys.ARROW_RIGHT, webdriver.Keys.ARROW_RIGHT)
    cell = find(page, f'{VISIBLE} .matrix tbody tr:nth-child(2) td:nth-child(4)')
    assert page.switch_to.active_element == cell
    assert all_of(page, f'{VISIBLE} .matrix [tabindex="0"]', 'cellIndex') == [3]
    pixels = cell.get_attribute('data-pixels')
    assert all_of(page, f'{VISIBLE} .readout')[0].startswith(
        f'<script>alert(1)</script>, predicted as "below" onload=\'alert(2)\' & {{{{ 7 * 7 }}}}: {pixels} pixels, '
    )


def background(page):
    return find(page, 'body').value_of_css_property('background-color')


def test_light_and_dark(page):
    def system(scheme):
        page.execute_cdp_cmd(
            'Emulation.setEmulatedMedia', {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}
        )

    system('light')
    light = background(page)
    system('dark')
    dark = background(page)
    assert light != dark
    assert find(page, '#theme').get_attribute('aria-pressed') == 'true'
    find(page, '#theme').click()
    assert background(page) == light
    page.refresh()
    assert background(page) == light  # the choice stays
    assert find(page, '#theme').get_attribute('aria-pressed') == 'false'


@pytest.mark.parametrize('width', [320, 360, 800])
def test_no_sideways_scrolling(page, width):
    page.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride', {'width': width, 'height': 700, 'deviceScaleFactor': 1, 'mobile': False}
    )
    fits = 'const {scrollWidth, clientWidth} = document.querySelector(arguments[0]); return scrollWidth <= clientWidth'
    for view in ('image', 'prediction', 'errors', 'confidence'):
        choose(page, view)
        assert page.execute_script(fits, 'html')
    page.execute_script("document.querySelector('details').open = true")
    find(page, '#gallery .enlarge').click()
    assert page.execute_script(fits, 'html')
    assert page.execute_script(fits, '#large')
