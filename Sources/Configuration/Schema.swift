/// What a key's value may be.
public enum SchemaType: Sendable, Equatable {
    case boolean
    case integer(ClosedRange<Int>)
    /// `auto`, or a whole number.
    case integerOrAuto(ClosedRange<Int>)
    case powerOfTwo(ClosedRange<Int>)
    /// Bytes.
    case size(ClosedRange<Int>)
    case sizePowerOfTwo(ClosedRange<Int>)
    /// A number with its unit, in milliseconds.
    case duration(ClosedRange<Int>)
    /// The same, where a plain number counts milliseconds.
    case milliseconds(ClosedRange<Int>)
    /// 0, or a number from `least` on.
    case number(ClosedRange<Double>, least: Double)
    /// 0 to 1, or a percentage.
    case rate
    case choice([String])
    /// A text of the form that the string describes.
    case text(String)
    /// A list of what the string describes.
    case list(String)
    case mapping
    /// Several forms, as the string describes.
    case forms(String)

    /// For messages and the documentation: `a size from 1KiB to 1MiB`.
    public var text: String {
        switch self {
        case .boolean: "true or false"
        case .integer(let range): "a whole number\(Self.range(range, String.init))"
        case .integerOrAuto(let range):
            "auto, or a whole number\(Self.range(range, String.init))"
        case .powerOfTwo(let range):
            "a power of two\(Self.range(range, String.init))"
        case .size(let range):
            "a size\(Self.range(range, SizeText.text))"
        case .sizePowerOfTwo(let range):
            "a size, power of two,\(Self.range(range, SizeText.text))"
        case .duration(let range):
            "a time\(Self.range(range, DurationText.text))"
        case .milliseconds(let range):
            "milliseconds, or a time\(Self.range(range, DurationText.text))"
        case .number(let range, _):
            "a number\(Self.range(range, DecimalText.text))"
        case .rate: "a number from 0 to 1, or 0% to 100%"
        case .choice(let names): names.joined(separator: " or ")
        case .text(let form): form
        case .list(let of): "a list of \(of)"
        case .mapping: "a mapping"
        case .forms(let forms): forms
        }
    }

    private static func range<Bound>(
        _ range: ClosedRange<Bound>, _ text: (Bound) -> String
    ) -> String {
        " from \(text(range.lowerBound)) to \(text(range.upperBound))"
    }
}

/// For how much a key of `traffic_mirror` holds, and so where else it may stand.
public enum MirrorScope: String, Sendable {
    /// The whole block: only there.
    case block
    /// One shadow: there and in an entry of `shadows`.
    case shadow
    /// What one route sends to one shadow: there, in an entry of `shadows`, and in a route's
    /// `mirror`.
    case route
}

/// One key that this version acts on.
public struct SchemaKey: Sendable {
    /// `[]` stands for an entry of a list, `*` for a name that the user chooses.
    public let path: String
    /// What the value may be.
    public let type: SchemaType
    /// As it would be written; `–` where there is none.
    public let standard: String
    /// A value that the key takes, as YAML.
    public let example: String
    /// One sentence.
    public let meaning: String
    /// Nil outside of `traffic_mirror`.
    public let scope: MirrorScope?

    init(
        _ path: String, _ type: SchemaType, _ standard: String, _ example: String,
        _ meaning: String,
        scope: MirrorScope? = nil
    ) {
        self.path = path
        self.type = type
        self.standard = standard
        self.example = example
        self.meaning = meaning
        self.scope = scope
    }

    /// The key's own name, without its path.
    public var name: String {
        guard let dot = path.lastIndex(of: ".") else { return path }
        return String(path[path.index(after: dot)...])
    }
}

/// Every key of the document. The reader looks its keys up here, lint reports what is not here, and
/// the tables of `docs/configuration.md` are written from here.
public enum Schema {
    /// Where the keys of `traffic_mirror` may be laid over, with the scopes that reach there.
    static let overlays: [(prefix: String, scopes: [MirrorScope])] = [
        ("traffic_mirror.shadows[]", [.shadow, .route]), ("routes[].mirror", [.route]),
    ]

    /// All keys, those of the overlays included, by path.
    static let byPath: [String: SchemaKey] = {
        var all: [String: SchemaKey] = [:]
        for key in keys { all[key.path] = key }
        for key in keys {
            guard let scope = key.scope else { continue }
            for overlay in overlays where overlay.scopes.contains(scope) {
                let path = overlay.prefix + key.path.dropFirst("traffic_mirror".count)
                if all[path] == nil {
                    all[path] = SchemaKey(path, key.type, key.standard, key.example, key.meaning)
                }
            }
        }
        return all
    }()

    /// The names that may stand in the mapping at `path`, in the table's order.
    static let childNames: [String: [String]] = {
        var children: [String: [String]] = [:]
        let derived = byPath.values.filter { key in !keys.contains { $0.path == key.path } }
        for key in keys + derived.sorted(by: { $0.path < $1.path }) {
            children[parent(of: key.path), default: []].append(key.name)
        }
        return children
    }()

    static func parent(of path: String) -> String {
        guard let dot = path.lastIndex(of: ".") else { return "" }
        return String(path[..<dot])
    }

    /// Keys of the same name that stand elsewhere in the same block: where a misplaced one belongs.
    static func elsewhere(_ name: String, block: String) -> String? {
        keys.first {
            $0.name == name && ($0.path.hasPrefix(block + ".") || $0.path.hasPrefix(block + "["))
        }?.path
    }
}
