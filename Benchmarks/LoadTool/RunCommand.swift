import CLinux
import CoreLoop
import Glibc
import Load
import TLS

/// `load run`.
enum RunCommand {
    static let help = """
        load run --url http[s]://ADDR:PORT/PATH [options]
        Sends HTTP/1.1 requests over keep-alive connections and reports what came back. Latency is measured from each
        request's intended time, so that a stalled target shows (no coordinated omission). Ctrl-C ends early.

          --url URL            ADDR is an IP address; may be repeated on one target: requests go round-robin
          --rate R             requests a second at intended times (open loop); without it: as fast as answers come
          --arrivals even|exponential    how intended times lie (even)
          --connections C      (64)
          --seconds S          measured time (5); --warmup S before it (0); --grace S for the last answers (2)
          --timeout S          an error for a request without answer so long (0: none)
          --requests N         end after N requests
          --reconnect          each request on a connection of its own
          --tls-version V      with https: 1.2 or 1.3 alone (both); no certificate is verified
          --tls-ciphers LIST, --tls-groups LIST    offer these, in OpenSSL's form (its default)
          --tls-resume         take up each connection's last session; without it each handshake is a full one
          --method M           (GET, or POST with --body)
          --body N             bytes of each request's body; --chunked sends it chunked
          --body-file FILE     the body itself
          --header 'N: V'      one more field; may be repeated
          --host NAME          the Host field (the URL's)
          --number 'NAME=WHAT' a field with a number in each request: serial, connection or serial%K; may be repeated;
                               the origin records X-Load-Serial=serial and X-Load-Connection=connection
          --backlog N          requests that may wait for a connection (1000000)
          --expect-bytes N     count answers whose body is not N bytes, and exit 1 on any
          --strict             exit 1 unless each request offered was answered with 2xx
          --seed N             of exponential arrivals (1)
          --cpu N              run on this CPU only
          --json               print JSON instead of the table; --json-file FILE writes it as well

        """

    private struct Plan {
        var options: LoadOptions
        var security: ClientContext?
        var cpu: Int
        var printsJSON: Bool
        var jsonFile: String?
        var isStrict: Bool
    }

    static func run(_ words: [String]) throws {
        var arguments = ArgumentList(words)
        if arguments.flag("--help") || arguments.flag("-h") {
            Standard.out(help)
            return
        }
        let plan = try read(&arguments)
        if plan.cpu >= 0 { ProcessControl.setAffinity([plan.cpu]) }
        let generator = try LoadGenerator(plan.options, security: plan.security)
        StopSignals.call { generator.stop() }
        let result = generator.run { progress in
            Standard.progress(
                "\(fixed(progress.elapsedSeconds, 1)) s  \(fixed(progress.answersPerSecond, 0)) answers/s"
                    + "  in flight \(progress.inFlight)  failed \(progress.failed)")
        }
        Standard.endProgress()
        let json = result.json.written() + "\n"
        if let file = plan.jsonFile { try Standard.writeFile(file, json) }
        Standard.out(plan.printsJSON ? json : result.table)
        let total = result.total
        let wrong =
            plan.options.bodyBytesExpected != nil && total[.wrongLength] + total[.strayBytes] > 0
        if wrong || (plan.isStrict && total[.status2xx] != total[.offered]) { exit(1) }
    }

    private static func read(_ arguments: inout ArgumentList) throws -> Plan {
        let urls = try arguments.texts("--url").map(parse)
        guard let first = urls.first else { throw ArgumentList.Fault("--url is missing") }
        guard urls.allSatisfy({ $0.address == first.address && $0.isSecure == first.isSecure })
        else {
            throw ArgumentList.Fault("--url: all must have the same scheme and address")
        }
        var options = LoadOptions(target: first.address)
        options.host = try arguments.text("--host") ?? first.authority
        var request = LoadRequest()
        request.bodyBytes = try arguments.integer("--body", otherwise: 0)
        if let path = try arguments.text("--body-file") {
            guard let bytes = Standard.readFile(path) else {
                throw ArgumentList.Fault("--body-file: \(path) cannot be read")
            }
            request.body = bytes
        }
        request.method = try arguments.text("--method") ?? (request.bodyBytes > 0 ? "POST" : "GET")
        request.isChunked = arguments.flag("--chunked")
        request.fields = try arguments.texts("--header")
        options.requests = urls.map { url in
            var each = request
            each.path = url.path
            return each
        }
        let rate = try arguments.number("--rate", otherwise: 0)
        options.rate = rate > 0 ? rate : nil
        if let arrivals = try arguments.text("--arrivals") {
            guard let known = Arrivals(rawValue: arrivals) else {
                throw ArgumentList.Fault("--arrivals: even or exponential")
            }
            options.arrivals = known
        }
        options.connections = try arguments.integer("--connections", least: 1, otherwise: 64)
        options.seconds = try arguments.number("--seconds", otherwise: 5)
        options.warmUpSeconds = try arguments.number("--warmup", otherwise: 0)
        options.graceSeconds = try arguments.number("--grace", otherwise: 2)
        options.timeoutSeconds = try arguments.number("--timeout", otherwise: 0)
        options.requestsMax = UInt64(try arguments.integer("--requests", otherwise: 0))
        options.backlogMax = try arguments.integer(
            "--backlog", otherwise: LoadLimits.backlogDefault)
        options.seed = UInt64(try arguments.integer("--seed", otherwise: 1))
        let expected = try arguments.integer("--expect-bytes", otherwise: -1)
        options.bodyBytesExpected = expected >= 0 ? expected : nil
        options.numbered = try arguments.texts("--number").map(numberedField)
        options.reconnects = arguments.flag("--reconnect")
        let plan = Plan(
            options: options,
            security: try security(&arguments, first, connections: options.connections),
            cpu: try arguments.integer("--cpu", otherwise: -1),
            printsJSON: arguments.flag("--json"), jsonFile: try arguments.text("--json-file"),
            isStrict: arguments.flag("--strict"))
        try arguments.finish()
        return plan
    }

    private static func security(
        _ arguments: inout ArgumentList, _ url: Target, connections: Int
    ) throws -> ClientContext? {
        var offer = ClientOffer()
        if let version = try arguments.text("--tls-version") {
            guard let known = TLSVersion(rawValue: version) else {
                throw ArgumentList.Fault("--tls-version: 1.2 or 1.3")
            }
            offer.version = known
        }
        let ciphers = try arguments.text("--tls-ciphers")
        if offer.version == .v13 { offer.cipherSuites = ciphers } else { offer.ciphers = ciphers }
        offer.groups = try arguments.text("--tls-groups")
        offer.resumes = arguments.flag("--tls-resume")
        guard url.isSecure else { return nil }
        var settings = ClientTLSSettings()
        settings.skipsVerification = true
        let host = url.authority.split(separator: ":").first.map(String.init) ?? url.authority
        return try ClientContext(
            settings, files: KeyFiles(), hosts: [host], addresses: connections, offer: offer)
    }

    private static func numberedField(_ text: String) throws -> NumberedField {
        let fault = ArgumentList.Fault(
            "--number wants NAME=serial, NAME=connection or NAME=serial%K, not '\(text)'")
        guard let equals = text.firstIndex(of: "=") else { throw fault }
        let name = String(text[..<equals])
        let what = text[text.index(after: equals)...]
        switch what {
        case "serial": return NumberedField(name: name, source: .serial)
        case "connection": return NumberedField(name: name, source: .connection)
        default:
            guard what.hasPrefix("serial%"), let count = UInt64(what.dropFirst(7)), count > 0 else {
                throw fault
            }
            return NumberedField(name: name, source: .serialModulo(count))
        }
    }

    private struct Target {
        var isSecure: Bool
        var address: SocketAddress
        var authority: String
        var path: String
    }

    private static func parse(_ url: String) throws -> Target {
        let isSecure = url.hasPrefix("https://")
        guard isSecure || url.hasPrefix("http://") else {
            throw ArgumentList.Fault("--url: http[s]://ADDR:PORT/PATH, not '\(url)'")
        }
        let rest = url.dropFirst(isSecure ? 8 : 7)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = String(rest[..<slash])
        let hasPort = authority.hasSuffix("]") ? false : authority.contains(":")
        let port = isSecure ? ":443" : ":80"
        guard let address = SocketAddress(hasPort ? authority : authority + port) else {
            throw ArgumentList.Fault("--url: '\(authority)' is no IP address with a port")
        }
        return Target(
            isSecure: isSecure, address: address, authority: authority,
            path: slash == rest.endIndex ? "/" : String(rest[slash...]))
    }
}
