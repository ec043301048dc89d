// swift-tools-version: 6.2
import PackageDescription

// Every target sees only those that stand above it: see ARCHITECTURE.md, "Who may import whom".
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

func library(_ name: String, _ dependencies: [Target.Dependency], path: String? = nil) -> Target {
    .target(name: name, dependencies: dependencies, path: path, swiftSettings: settings)
}

func tool(
    _ name: String, _ dependencies: [Target.Dependency], path: String? = nil, linkerSettings: [LinkerSetting]? = nil
) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies, path: path, swiftSettings: settings, linkerSettings: linkerSettings)
}

/// A benchmark that counts allocations: see AllocationCount.swift.
func counting(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies, path: "Benchmarks/\(name)", exclude: exclude,
        swiftSettings: settings,
        linkerSettings: [.unsafeFlags(["-Xlinker", "--defsym=malloc=umbra_counted_malloc"])])
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let package = Package(
    name: "umbra",
    targets: [
        .systemLibrary(name: "CLinux"),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

        library("CoreLoop", ["CLinux"]),
        library("HTTP", ["CLinux", "CoreLoop"]),
        library("Providers", ["CLinux", "CoreLoop", "HTTP"]),
        library("Policy", ["CoreLoop", "Providers"]),
        library("Mock", ["CLinux", "CoreLoop", "HTTP", "Providers"]),
        library("TLS", ["CLinux", "COpenSSL", "CoreLoop"]),
        library("EventLog", ["CLinux", "COpenSSL", "CoreLoop"]),
        library("Verdict", ["CLinux", "COpenSSL", "CoreLoop", "HTTP", "Providers", "Policy", "EventLog"]),
        library("Upstream", ["CLinux", "CoreLoop", "HTTP", "Providers", "TLS"]),
        library("Mirror", ["CLinux", "CoreLoop", "HTTP", "Providers", "TLS", "EventLog", "Verdict", "Upstream"]),
        library("Proxy", ["CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror"]),
        library("Configuration", ["CYAML", "CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy"]),
        library("Admin", ["CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy", "Configuration"]),
        library("Load", ["CLinux", "CoreLoop", "TLS"], path: "Benchmarks/Load"),
        tool("umbra", ["CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "Mock", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy", "Configuration", "Admin", "Load"],
            linkerSettings: [.unsafeFlags(["-static-stdlib"], .when(configuration: .release))]),

        tool("load", ["CLinux", "CoreLoop", "TLS", "Load"], path: "Benchmarks/LoadTool"),
        tool("LatencyOverhead", ["CLinux", "CoreLoop", "Load"], path: "Benchmarks/LatencyOverhead"),
        tool("EventLogTool", ["CLinux", "CoreLoop", "EventLog", "Load"], path: "Benchmarks/EventLogTool"),
        tool("SamplingAccuracy", ["CLinux", "CoreLoop", "Load"], path: "Benchmarks/SamplingAccuracy"),
        library("AllocationCount", [], path: "Benchmarks/AllocationCount"),
        counting("HeadParse", ["AllocationCount", "CLinux", "CoreLoop", "HTTP"], exclude: ["bounds", "instructions"]),
        counting("Translate", ["AllocationCount", "CLinux", "CoreLoop", "Providers"]),

        .target(
            name: "Certificates", dependencies: ["TLS"], path: "Tests/Certificates",
            exclude: ["make"], swiftSettings: settings),
        tests("CoreLoopTests", ["CLinux", "CoreLoop"]),
        tests("HTTPTests", ["CoreLoop", "HTTP"]),
        tests("ProvidersTests", ["CoreLoop", "HTTP", "Providers"]),
        tests("PolicyTests", ["CoreLoop", "Providers", "Policy"]),
        tests("MockTests", ["CoreLoop", "Providers", "Mock"]),
        tests("TLSTests", ["CLinux", "Certificates", "CoreLoop", "TLS"]),
        tests("EventLogTests", ["CLinux", "CoreLoop", "EventLog"]),
        tests("VerdictTests", ["CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "EventLog", "Verdict"]),
        tests("LoadTests", ["CLinux", "CoreLoop", "TLS", "Load"]),
        tests("UpstreamTests", ["CLinux", "CoreLoop", "Providers", "Upstream"]),
        tests("MirrorTests", ["CLinux", "CoreLoop", "HTTP", "Providers", "TLS", "EventLog", "Verdict", "Upstream", "Mirror"]),
        tests("ProxyTests", ["CLinux", "Certificates", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy"]),
        tests("ConfigurationTests", ["CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy", "Configuration"]),
        tests("AdminTests", ["CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream", "Mirror", "Proxy", "Configuration", "Admin"]),
        tests("SimulationTests", ["CLinux", "CoreLoop", "HTTP", "TLS", "Upstream", "Mirror", "Proxy"]),
        tests("TidyTests", []),
    ],
    swiftLanguageModes: [.v6]
)
