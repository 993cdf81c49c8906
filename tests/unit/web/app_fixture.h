// The web daemon in one process with replicators that are played: everything on one loop in a
// thread of its own, asked over loopback like by a browser.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <gtest/gtest.h>
#include <thread>

#include "tests/unit/web/fake_pair.h"
#include "tests/unit/web/raw_client.h"
#include "web/app.h"

namespace antipode::web::test {

class AppTest : public testing::Test {
  protected:
    AppTest() {
        std::string pattern = testing::TempDir() + "web-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
        std::filesystem::create_directories(directory_ + "/a");
        std::filesystem::create_directories(directory_ + "/b");
        settings_.server.port = 0;
        settings_.fleet.directories = {directory_ + "/a", directory_ + "/b"};
        settings_.fleet.poll_interval = std::chrono::milliseconds(20);
        settings_.fleet.rescan_interval = std::chrono::milliseconds(20);
    }
    ~AppTest() override {
        stop();
        std::filesystem::remove_all(directory_);
    }

    void add_pair(const std::string& name) {
        auto pair = std::make_unique<FakePair>(name, "prague", "lisbon", 7, unix_ms_now);
        pair->run_for(60);
        pairs_[name] = std::move(pair);
        for (size_t site = 0; site < 2; ++site) serve(name, site);
    }
    void serve(const std::string& name, size_t site) {
        control::ControlServerSettings settings;
        settings.path = socket_path(name, site);
        auto server =
            control::ControlServer::start(context_, settings, pairs_[name]->handler(site));
        ASSERT_TRUE(server) << server.error().to_string();
        servers_[settings.path] = std::move(*server);
    }
    std::string socket_path(const std::string& name, size_t site) const {
        return directory_ + (site == 0 ? "/a/" : "/b/") + name + ".sock";
    }

    void start() {
        auto app = App::start(context_, settings_);
        ASSERT_TRUE(app) << app.error().to_string();
        app_ = std::move(*app);
        port_ = app_->port();
        thread_ = std::thread([this] { context_.run(); });
    }
    void stop() {
        if (!thread_.joinable()) return;
        boost::asio::post(context_, [this] {
            app_->stop();
            servers_.clear();
        });
        thread_.join();  // run() has come to its end: nothing is left pending
        app_.reset();
    }
    template <typename Function>
    auto on_loop(Function function) {
        std::promise<decltype(function())> promise;
        auto future = promise.get_future();
        boost::asio::post(context_, [&] { promise.set_value(function()); });
        return future.get();
    }
    void play(const std::function<void()>& scene) {
        on_loop([&] {
            scene();
            return true;
        });
    }

    RawResponse get(std::string_view path, std::string_view headers = "") {
        RawClient client(port_);
        client.get(path, headers);
        auto response = client.response();
        EXPECT_TRUE(response.has_value()) << path;
        return response.value_or(RawResponse{});
    }
    control::json::value get_json(std::string_view path) {
        const RawResponse response = get(path);
        EXPECT_EQ(response.status, 200) << path << ": " << response.body;
        auto value = control::parse_json(response.body);
        EXPECT_TRUE(value.has_value()) << response.body;
        return value ? std::move(*value) : control::json::value(nullptr);
    }
    // Asks until the answer is as wanted: the daemon learns of a scene by polling. Bounded by the
    // test's own time limit.
    template <typename Predicate>
    control::json::value eventually(std::string_view path, Predicate wanted) {
        for (;;) {
            control::json::value value = get_json(path);
            if (wanted(value)) return value;
            std::this_thread::yield();
        }
    }

    boost::asio::io_context context_;
    Settings settings_;
    std::string directory_;
    std::map<std::string, std::unique_ptr<FakePair>> pairs_;
    std::map<std::string, std::unique_ptr<control::ControlServer>> servers_;
    std::unique_ptr<App> app_;
    uint16_t port_ = 0;
    std::thread thread_;
};

}  // namespace antipode::web::test
