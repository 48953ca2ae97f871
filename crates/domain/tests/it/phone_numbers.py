"""Prints phone numbers with what Google's library says of them, a tab-separated line each: text, E.164 or nothing, country.

Read by phone_numbers.rs, which holds our own type against it. Deterministic: the same lines in each run.
"""

import random

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

chance = random.Random(20761)
texts = set()
for region in sorted(phonenumbers.SUPPORTED_REGIONS):
    for kind in sorted(PhoneNumberType.values()):
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        text = phonenumbers.format_number(example, PhoneNumberFormat.E164)
        digits = text[1:]
        texts.add(text)
        texts.add(text[:-1])
        texts.add(text + "7")
        place = chance.randrange(1, len(digits))
        texts.add("+" + digits[:place] + str(chance.randrange(10)) + digits[place + 1 :])
        texts.add("+" + digits[:place] + "0" + digits[place:])
for _ in range(3000):
    texts.add("+" + str(chance.randrange(1, 10)) + "".join(str(chance.randrange(10)) for _ in range(chance.randrange(3, 16))))

for text in sorted(texts):
    try:
        number = phonenumbers.parse(text, None)
    except NumberParseException:
        print(text, "", "", sep="\t")
        continue
    possible = phonenumbers.is_possible_number(number) and phonenumbers.region_codes_for_country_code(number.country_code)
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164) if possible else ""
    country = phonenumbers.region_code_for_number(number) or ""
    print(text, e164, "" if country == "001" else country, sep="\t")
