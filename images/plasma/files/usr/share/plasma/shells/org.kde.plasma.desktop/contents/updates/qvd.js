// SPDX-License-Identifier: GPL-3.0-or-later
// Run once for each user, after the first panel and desktop are made: our
// wallpaper, and in the panel what is installed.
desktops().forEach(function (desktop) {
    desktop.wallpaperPlugin = "org.kde.image";
    desktop.currentConfigGroup = ["Wallpaper", "org.kde.image", "General"];
    desktop.writeConfig("Image", "file:///usr/share/qvd/wallpaper.svg");
});
panels().forEach(function (panel) {
    panel.widgets("org.kde.plasma.icontasks").forEach(function (tasks) {
        tasks.currentConfigGroup = ["General"];
        tasks.writeConfig("launchers", [
            "applications:org.kde.dolphin.desktop",
            "applications:org.kde.konsole.desktop",
            "applications:org.kde.kwrite.desktop",
        ]);
    });
});
