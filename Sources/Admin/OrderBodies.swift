import CoreLoop
import Mirror
import Providers
import Proxy

/// The bodies of POST requests: what they ask for, or what is wrong with them.
struct OrderBodies {
    /// A sentence for who sent it.
    struct Fault: Error, Equatable {
        let message: String
        init(_ message: String) { self.message = message }
    }

    /// The routes' names, in order.
    let routes: [String]

    /// An order that takes no further word: nothing, white space, or an empty object.
    func expectNothing(_ body: [UInt8]) throws(Fault) {
        guard body.contains(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) else { return }
        let root = try object(body)
        if let member = root.members.first(where: { _ in true }) {
            throw Fault("\(quoted(member.name)) has no meaning here.")
        }
    }

    /// `{"action": "off"|"on"|"rate", "rate": 0.1, "route": "search", "for": "30m"}`.
    func mirror(_ body: [UInt8]) throws(Fault) -> ControlOrder {
        var action: String?
        var rate: UInt32?
        var route: Int?
        var forMs = 0
        for (name, value) in try object(body).members {
            switch name {
            case "action": action = try text(value, name)
            case "rate": rate = try Self.rate(value)
            case "route":
                if value.isNull { continue }
                let wanted = try text(value, name)
                route = routes.firstIndex(of: wanted)
                if route == nil {
                    throw Fault(
                        "There is no route \(quoted(wanted)); there are "
                            + routes.prefix(20).map { quoted($0) }.joined(separator: ", ")
                            + (routes.count > 20 ? " and others." : "."))
                }
            case "for":
                if value.isNull { continue }
                forMs = try Self.span(text(value, name))
            default:
                throw Fault("\(quoted(name)) is unknown; known are action, rate, route and for.")
            }
        }
        switch (action, rate) {
        case ("off", nil): return .mirror(.off, route: route, forMs: forMs)
        case ("on", nil): return .mirror(.on, route: route, forMs: forMs)
        case ("rate", let rate?): return .mirror(.rate(rate), route: route, forMs: forMs)
        case ("rate", nil): throw Fault("rate is missing: a number from 0 to 1.")
        case ("off", _), ("on", _): throw Fault("rate stands only beside the action rate.")
        default: throw Fault("action is to be off, on or rate.")
        }
    }

    private func object(_ body: [UInt8]) throws(Fault) -> JSONValue {
        let document: JSONDocument
        do {
            document = try JSONDocument(body, depthMax: 4, valuesMax: AdminLimits.bodyValuesMax)
        } catch {
            throw Fault("The content is not JSON: \(error.text).")
        }
        guard document.root.kind == .object else { throw Fault("The content is no JSON object.") }
        if let name = document.repeatedNames.first {
            throw Fault("\(quoted(name)) stands there twice.")
        }
        return document.root
    }

    private func text(_ value: JSONValue, _ name: String) throws(Fault) -> String {
        guard let text = value.string else { throw Fault("\(name) is to be a string.") }
        return text
    }

    /// A share of one in `Sampler.steps`-ths.
    static func rate(_ value: JSONValue) throws(Fault) -> UInt32 {
        guard let share = value.number, (0...1).contains(share) else {
            throw Fault("rate is to be a number from 0 to 1.")
        }
        return UInt32((share * Double(Sampler.steps)).rounded())
    }

    private static func span(_ text: String) throws(Fault) -> Int {
        guard let ms = SpanText.milliseconds(text), (1...MirrorOrder.forMsMax).contains(ms) else {
            throw Fault(
                "for is to be a time such as 90s, 30m, 2h or 1d, at most "
                    + "\(SpanText.text(ms: MirrorOrder.forMsMax)).")
        }
        return ms
    }

    /// What others wrote, bounded, in quotes. JSON's own escapes keep it from harm.
    private func quoted(_ text: String) -> String {
        "'\(text.unicodeScalars.count > 60 ? String(text.prefix(60)) + "…" : text)'"
    }
}
