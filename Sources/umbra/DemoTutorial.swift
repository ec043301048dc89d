import CLinux
import CoreLoop
import EventLog
import Load
import Providers

/// The first part of `umbra demo`: an OpenAI client's chats, copied to an Anthropic model. The
/// providers are the stand-ins of `umbra mock`, everything else is as in production.
struct DemoTutorial {
    /// The tutorial's five prompts.
    static let prompts = [
        "What is Kubernetes?",
        "Explain CORS in simple terms.",
        "Write a Python function to calculate Fibonacci numbers.",
        "What are the SOLID principles?",
        "Describe the differences between SQL and NoSQL databases.",
    ]
    private static let model = "gpt-4o-mini"
    private static let shadowModel = "claude-sonnet-4-20250514"
    /// How fast the stand-ins are: milliseconds before an answer, and tokens a second.
    private static let primaryPace = (latencyMs: 20, tokensPerSecond: 2_000)
    private static let shadowPace = (latencyMs: 35, tokensPerSecond: 1_500)
    /// How long an answer may take, and after it the event with both sides, milliseconds.
    private static let waitMs = 10_000
    private static let mockReadyMs = 5_000

    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    let gateway: Gateway
    /// Where the events are.
    let events: String

    /// Starts both stand-ins and the gateway between them; its events go to the folder `events`.
    init(directory: String, events: String) throws {
        self.events = events
        // What the stand-ins take for a key: no real one leaves the environment.
        setenv("OPENAI_API_KEY", "demo-openai-key", 1)
        setenv("ANTHROPIC_API_KEY", "demo-anthropic-key", 1)
        let openai = try Self.mock("openai", Self.primaryPace, directory)
        let anthropic = try Self.mock("anthropic", Self.shadowPace, directory)
        let listen = try DemoCommand.freeAddress()
        let admin = try DemoCommand.freeAddress()
        gateway = try Gateway(
            umbra: "/proc/self/exe", name: "tutorial",
            configuration: """
                version: '1'
                listen: \(listen.text)
                admin: {listen: \(admin.text)}
                event_log: {directory: "\(events)"}
                providers:
                  targets:
                    - id: openai
                      provider: openai
                      base_url: "http://\(openai.text)"
                      secret_key_ref:
                        env: OPENAI_API_KEY
                    - id: anthropic
                      provider: anthropic
                      base_url: "http://\(anthropic.text)"
                      secret_key_ref:
                        env: ANTHROPIC_API_KEY
                traffic_mirror:
                  enabled: true
                  primary: openai
                  shadow: anthropic
                  model_mapping:
                    gpt-4o-mini: \(Self.shadowModel)
                    gpt-4o: \(Self.shadowModel)
                  sample_rate: 1.0
                  async: true
                  log_shadow_response: true
                  compare_metrics:
                    - latency
                    - token_count
                    - content_similarity
                policies:
                  - name: content-filter
                    type: content_filter
                    action: flag

                """, listen: listen, admin: admin, cpus: [], directory: directory)
    }

    private static func mock(
        _ dialect: String, _ pace: (latencyMs: Int, tokensPerSecond: Int), _ directory: String
    ) throws -> SocketAddress {
        let address = try DemoCommand.freeAddress()
        let log = "\(directory)/mock-\(dialect).log"
        let process = try ChildProcess(
            "/proc/self/exe",
            [
                "mock", dialect, "--listen", address.text, "--latency-ms", "\(pace.latencyMs)",
                "--tokens-per-second", "\(pace.tokensPerSecond)",
            ], logFile: log)
        Cleanup.add { process.terminate() }
        let deadline = Instant.now().adding(ms: mockReadyMs)
        while (try? Scrape.get(address, "/v1/models", timeoutMs: 200)) == nil {
            guard process.isRunning, Instant.now() < deadline else {
                let text = String(decoding: Standard.readFile(log) ?? [], as: UTF8.self)
                throw Fault(description: "the stand-in for \(dialect) did not start: \(text)")
            }
            usleep(10_000)
        }
        return address
    }

    // MARK: The conversation

    /// Asks the five prompts, and shows each pair as it comes in; then the sums of step 6.
    func run() throws {
        Console.out(
            """
            The tutorial: \(Self.model) answers, \(Self.shadowModel) gets a copy of each chat
            (stand-ins for both providers on loopback).

            \(Self.row("prompt", ["openai", "", "anthropic", "", ""]))
            \(Self.row("", ["ms", "tokens", "ms", "tokens", "similarity"]))
            """)
        var pairs: [Pair] = []
        for (place, prompt) in Self.prompts.enumerated() {
            Standard.progress("asking \(place + 1)/\(Self.prompts.count): \(prompt)")
            try ask(prompt)
            let pair = try awaitPair(number: place)
            Standard.endProgress()
            Console.out(
                Self.row(
                    prompt,
                    [
                        fixed(pair.primaryMs, 0), "\(pair.primaryTokens)",
                        fixed(pair.shadowMs, 0), "\(pair.shadowTokens)",
                        pair.similarity.map { fixed($0, 2) } ?? "-",
                    ]))
            pairs.append(pair)
        }
        Console.out(Self.sums(pairs))
    }

    private func ask(_ prompt: String) throws {
        let body = JSONWriter.write { writer in
            writer.object { writer in
                writer.member("model", Self.model)
                writer.list("messages") { writer in
                    writer.object { writer in
                        writer.member("role", "user")
                        writer.member("content", prompt)
                    }
                }
            }
        }
        let answer = try Scrape.post(
            gateway.listen, "/v1/chat/completions", type: "application/json", body,
            timeoutMs: Self.waitMs)
        guard answer.status == 200 else {
            let text = String(decoding: answer.body.prefix(500), as: UTF8.self)
            throw Fault(description: "the gateway answered \(answer.status): \(text)")
        }
    }

    /// One event's `traffic_mirror`.
    private struct Pair {
        var primaryMs = 0.0
        var primaryTokens = 0
        var shadowMs = 0.0
        var shadowTokens = 0
        var similarity: Double?
        var isFailure = false

        init?(_ record: UnsafeRawBufferPointer) {
            guard let document = try? JSONDocument(Array(record)),
                let mirror = document.root.present("traffic_mirror")
            else { return nil }
            primaryMs = mirror["primary"]?["latency_ms"]?.number ?? 0
            primaryTokens = mirror["primary"]?["output_tokens"]?.integer ?? 0
            shadowMs = mirror["shadow"]?["latency_ms"]?.number ?? 0
            shadowTokens = mirror["shadow"]?["output_tokens"]?.integer ?? 0
            similarity = mirror["comparison"]?["content_similarity"]?.number
            isFailure = mirror["shadow"]?["status"]?.isText("success") != true
        }
    }

    /// The pair of the chat number `number`, once its event is in the log.
    private func awaitPair(number: Int) throws -> Pair {
        let deadline = Instant.now().adding(ms: Self.waitMs)
        while Instant.now() < deadline {
            var found: [Pair] = []
            if var reader = try? LogReader(events, EventFilter()) {
                try? reader.select { record in
                    if let pair = Pair(record) { found.append(pair) }
                    return true
                }
            }
            if found.count > number { return found[number] }
            usleep(20_000)
        }
        throw Fault(
            description:
                "no event of the copy within \(Self.waitMs / 1_000) s\n\(gateway.logTail())")
    }

    // MARK: Report

    private static func row(_ prompt: String, _ cells: [String]) -> String {
        let widths = [9, 7, 10, 7, 11]
        func padded(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        let name = prompt + String(repeating: " ", count: max(0, 58 - prompt.count))
        let line = name + zip(cells, widths).map { padded($0, $1) }.joined()
        return String(line.reversed().drop { $0 == " " }.reversed())
    }

    private static func sums(_ pairs: [Pair]) -> String {
        func mean(_ value: (Pair) -> Double?) -> Double? {
            let values = pairs.compactMap(value)
            return values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
        }
        func whole(_ value: (Pair) -> Double) -> String { fixed(mean(value) ?? 0, 0) }
        var table = TextTable(["", ""])
        table.add(["total_mirrored", "\(pairs.count)"])
        table.add(["avg_primary_latency_ms", whole(\.primaryMs)])
        table.add(["avg_shadow_latency_ms", whole(\.shadowMs)])
        table.add(["avg_similarity", mean(\.similarity).map { fixed($0, 2) } ?? "-"])
        table.add(["avg_primary_output_tokens", whole { Double($0.primaryTokens) }])
        table.add(["avg_shadow_output_tokens", whole { Double($0.shadowTokens) }])
        table.add(["shadow_failures", "\(pairs.count { $0.isFailure })"])
        return table.text
    }
}
