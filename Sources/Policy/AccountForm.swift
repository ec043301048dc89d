/// International bank account numbers (ISO 13616-1).
enum AccountForm {
    /// The end of the account number that begins at `place`, where a word does; nil where none
    /// does.
    static func find(_ text: TextBytes, at place: Int) -> Int? {
        guard text.isLetter(place), text.isLetter(place + 1), text.isDigit(place + 2),
            text.isDigit(place + 3), let length = length(text[place], text[place + 1])
        else { return nil }
        var letters: [UInt8] = []
        letters.reserveCapacity(length)
        var at = place
        while letters.count < length {
            if !letters.isEmpty, text[at] == 0x20 || text[at] == UInt8(ascii: "-") { at += 1 }
            guard text.isAlphanumeric(at) else { return nil }
            letters.append(text.isLetter(at) ? text[at] & 0xDF : text[at])
            at += 1
        }
        guard !text.isWord(at), remainder(letters) == 1 else { return nil }
        return at
    }

    /// Of the number that the letters stand for, the first four behind the others (ISO/IEC 7064,
    /// MOD 97-10).
    private static func remainder(_ letters: [UInt8]) -> Int {
        var rest = 0
        for letter in letters[4...] + letters[..<4] {
            rest =
                letter < 0x41
                ? (rest * 10 + Int(letter - 0x30)) % 97 : (rest * 100 + Int(letter - 0x37)) % 97
        }
        return rest
    }

    private static func length(_ first: UInt8, _ second: UInt8) -> Int? {
        let country = UInt16(first & 0xDF) << 8 | UInt16(second & 0xDF)
        return lengths.first { $0.country == country }?.length
    }

    /// As SWIFT's registry of the standard lists them.
    private static let lengths: [(country: UInt16, length: Int)] = {
        let listed =
            "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
            + "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 "
            + "HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 "
            + "LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 "
            + "PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 "
            + "TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
        return listed.split(separator: " ").map { entry in
            let bytes = Array(entry.utf8)
            return (UInt16(bytes[0]) << 8 | UInt16(bytes[1]), Int(entry.dropFirst(2))!)
        }
    }()
}
