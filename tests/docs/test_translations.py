"""README.zh-CN.md and README.ru.md are in step with README.md, and what is not is said in one line."""

import re

import pytest

from tests.docs.reading import ROOT
from tests.docs.translations import LINK, ORIGINAL, TRANSLATIONS, differences, numbers, read_page

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (ORIGINAL, *TRANSLATIONS)}
LETTERS = {"README.zh-CN.md": r"[\u4e00-\u9fff]", "README.ru.md": r"[\u0400-\u04ff]"}
ENGLISH = """# Name

Two ways, of 2023, in `tools/rank.py` and [a page](docs/tbps.md); [below](#use).

![A picture](docs/search.png)

| set | Rank-1 |
|---|---|
| Market-1501 | 88.1 / 94.7 |
| [Duke](docs/data.md) | 79.3 |

## Use

```bash
# train
python train.py --config_file configs/person/vit_base.yml
```

```python
print(1)  # one
```

With `MODEL.NAME` and 10,000 images.
"""
RUSSIAN = """# Имя

Два способа 2023 года, в `tools/rank.py` и на [странице](docs/tbps.md); [ниже](#применение).

![Картинка](docs/search.png)

| набор | Rank-1 |
|---|---|
| Market-1501 | 88.1 / 94.7 |
| [Duke](docs/data.md) | 79.3 |

## Применение

```bash
# обучение
python train.py --config_file configs/person/vit_base.yml
```

```python
print(1)  # один
```

С `MODEL.NAME` и 10 000 изображений.
"""


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_the_translation_is_in_step(name):
    found = differences(TEXTS[ORIGINAL], TEXTS[name], name)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_the_translation_is_in_its_language(name):
    """No heading or paragraph, and no comment of a block, has been left in English."""
    page = read_page(TEXTS[name])
    paragraphs = "\n".join(line for section in page for line in section.prose).split("\n\n")[1:]
    comments = re.findall(r"(?:^|  )# (.*)$", TEXTS[name].partition("\n")[2], re.MULTILINE)
    texts = [*paragraphs, *comments, *(section.title for section in page[1:])]
    assert [text for text in texts if text.strip() and not re.search(LETTERS[name], text)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_each_page_links_to_the_others(name):
    line = TEXTS[name].splitlines()[2]
    assert LINK.findall(line) == [other for other in TEXTS if other != name]


def test_a_page_is_in_step_with_a_translation_of_its_own_words():
    assert differences(ENGLISH, RUSSIAN, "README.ru.md") == []
    assert numbers("10,000 and [3.10](a/b2.md), `7`, ![8](9.png)") == ["10000", "3.10"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "vit_base.yml\n",
            "cnn_base.yml\n",
            "README.ru.md:14: not as README.md:14, which has 'python train.py",
        ),
        ("print(1)  # one", "print(1)", "README.ru.md:19: not as README.md:19, which has 'print(1)'"),
        ("```python", "```text", "README.ru.md:19: not as README.md:19, which has '```text'"),
        (
            "```python",
            "```bash\nls\n```\n\n```python",
            "README.ru.md:12: below this, README.md:19 is missing",
        ),
        ("```python\nprint(1)  # one\n```\n", "", "README.ru.md:19: README.md has nothing of the kind"),
        ("88.1 / 94.7", "94.7 / 88.1", "README.ru.md:9: not as README.md:9"),
        ("| Rank-1 |", "| Rank-1 | mAP |", "README.ru.md:7: not as README.md:7"),
        (
            "|---|---|\n",
            "|---|---|\n| VeRi-776 | 1 |\n",
            "README.ru.md:1: below this, README.md:9 is missing",
        ),
        ("| [Duke](docs/data.md) | 79.3 |\n", "", "README.ru.md:10: README.md has nothing of the kind"),
        ("docs/data.md", "docs/runs.md", "README.ru.md:10: not as README.md:10"),
        ("## Use", "## More\n\nIt is.\n\n## Use", "README.ru.md:1: below this, README.md:12 is missing"),
        (
            "## Use",
            "### Use",
            "README.md:12 (Use) differs in heading of level: only there [3], only here [2]",
        ),
        ("search.png", "ranking.png", "README.md:1 (Name) differs in pictures"),
        ("tbps.md", "pcl.md", "differs in links: only there ['docs/pcl.md'], only here ['docs/tbps.md']"),
        ("#use", "#name", "differs in links: only there ['heading 1'], only here ['heading 2']"),
        ("rank.py", "search.py", "in `code`: only there ['tools/search.py'], only here ['tools/rank.py']"),
        ("MODEL.NAME", "MODEL.TAG", "README.ru.md:12: the section of README.md:12 (Use) differs in `code`"),
        ("10,000", "20,000", "differs in numbers: only there ['20000'], only here ['10000']"),
    ],
)
def test_a_change_is_one_line_that_says_where(old, new, told):
    assert ENGLISH.count(old) == 1
    (line,) = differences(ENGLISH.replace(old, new), RUSSIAN, "README.ru.md")
    assert told in line and "\n" not in line
